"""The stage of who acted: fingerprints, visitor ids and user ids, hashed by the key of the site and its day."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.parameters import decode
from schemas.privacy import Values, VisitorIds
from schemas.tables import VisitorKind
from streams import keyed
from streams.anonymize import user_ids, visitor_ids
from streams.columns import text_bytes
from streams.description import U64, Flags
from streams.distinct import plain
from streams.frame import Frame
from streams.keyed import Kind


class Identity(Frame):
    """Needs `keys`."""

    plugins: npt.NDArray[np.uint16]  # of each row, a bit each

    def identity(self, seen: U64, language: U64, device: U64) -> None:
        rows, out = self.rows, self.out
        place = (rows.partition << np.uint64(32)) | rows.index.astype(np.uint64)
        config = self.fingerprint(seen, language, device)
        each = self.by_scope(lambda rules: rules.privacy.visitor_ids is VisitorIds.REQUEST)
        if each.any():
            random = keyed.hash_columns(self.k0, self.k1, Kind.REQUEST, rows.writer, rows.seq, place)
            config = np.where(each, random, config)
        numbers, named = self.visitor_numbers()
        visitor = np.where(named, keyed.hash_columns(self.k0, self.k1, Kind.VISITOR, numbers), np.uint64(0))
        user = np.zeros(self.n, np.uint64)
        kept_user, names = user.copy(), np.zeros(self.n, np.int64)
        texts = [""]
        for text, row in zip(*self.query.texts("uid"), strict=True):
            rules = self.rules_of(row)
            if not rules.reads_ids:
                continue
            hashed = user_ids.user_hash(self.key_of(row), text)
            rule = rules.privacy.user_ids
            if rule is Values.DROP:
                visitor[row] = visitor[row] or hashed
            else:
                user[row] = hashed
                lasts = rule is not Values.DAY
                kept_user[row] = user_ids.user_hash(self.kept_key(row, lasts), text) if lasts else user[row]
                if rule is Values.KEEP:
                    names[row] = len(texts)
                    texts.append(user_ids.clean(text))
        lasting = self.by_scope(lambda rules: rules.privacy.visitor_ids is VisitorIds.SITE)
        lasting_users = self.by_scope(lambda rules: rules.privacy.user_ids in (Values.SITE, Values.KEEP))
        kept_visitor = visitor
        if lasting.any():
            s0, s1 = self.site_words(lasting)
            kept = keyed.hash_columns(s0, s1, Kind.VISITOR, numbers)
            kept_visitor = np.where(lasting & named, kept, visitor)
        by_user = (user > 0) & ~(lasting & ~lasting_users & named)
        who = np.where(by_user, np.where(lasting & lasting_users, kept_user, user), kept_visitor)
        kind = np.where(
            by_user, VisitorKind.USER_ID, np.where(visitor > 0, VisitorKind.VISITOR_ID, VisitorKind.CONFIG_ID)
        )
        self.columns |= {
            "visitor_id": pa.array(np.where(who > 0, who, config)),
            "visitor_kind": pa.array(kind.astype(np.uint8)),
            "config_id": pa.array(config),
            "user_id": pa.array(kept_user),
            "user_name": plain(texts, names),
        }
        out.time = rows.time_ms.tolist()
        out.user, out.visitor, out.config = user.tolist(), visitor.tolist(), config.tolist()
        name = keyed.hash_columns(self.k0, self.k1, Kind.VISIT, rows.writer, rows.seq, place)
        out.visit_name = name.tolist()

    def fingerprint(self, seen: U64, language: U64, device: U64) -> U64:
        """The config ids, with plugins where the policy asks for it."""
        fine = self.by_scope(lambda rules: rules.fine)
        words = seen[:, 0], seen[:, 1], device, language
        if not fine.any():
            return keyed.hash_columns(self.k0, self.k1, Kind.CONFIG, *words)
        finer = keyed.hash_columns(self.k0, self.k1, Kind.CONFIG, *words, self.plugins.astype(np.uint64))
        if fine.all():
            return finer
        return np.where(fine, finer, keyed.hash_columns(self.k0, self.k1, Kind.CONFIG, *words))

    def site_words(self, where: Flags) -> tuple[U64, U64]:
        """The halves of the permanent keys of the sites of these rows, 0 elsewhere."""
        words = np.zeros((len(self.rules), 2), np.uint64)
        for scope in np.unique(self.rows.scope[where]).tolist():
            row = int(np.flatnonzero(self.rows.scope == scope)[0])
            words[scope] = keyed.key_words(self.kept_key(row, True))
        found = words[self.rows.scope]
        return found[:, 0], found[:, 1]

    def visitor_numbers(self) -> tuple[U64, Flags]:
        """The number of `cid` or `_id`, and which rows have one that may be read."""
        numbers, named = np.zeros(self.n, np.uint64), np.zeros(self.n, np.bool_)
        reads = self.by_scope(lambda rules: rules.reads_ids and rules.privacy.visitor_ids is not VisitorIds.DROP)
        cookies = reads & self.by_scope(lambda rules: not rules.privacy.cookieless)
        values, rows = self.query.values("_id")
        if len(rows) and cookies.any():
            data, starts, lengths = text_bytes(values)
            found, good = visitor_ids.cookie_column(data, starts, lengths)
            for i in np.flatnonzero(~good & (lengths >= 16)).tolist():  # perhaps percent-encoded
                number = visitor_ids.cookie(decode(values[i].as_py()))
                if number is not None:
                    found[i], good[i] = number, True
            numbers[rows], named[rows] = found, good
            named &= cookies
        for text, row in zip(*self.query.texts("cid"), strict=True):
            number = visitor_ids.forced(text)
            if number is not None and reads[row]:
                numbers[row], named[row] = number, True
        return numbers, named
