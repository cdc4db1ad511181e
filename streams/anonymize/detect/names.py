"""Names in paths: what follows /user/, /profile/, /account/ and the like, or /~ and /@, and is no page of the site.

A segment made of words of pages only (login, order-history, settings.php) is kept, as is one that is masked already.
What follows a number, /users/17/jane-doe, is looked at too. Pages of authors are what a site publishes, and are kept.

In a text a segment ends where a word does, unless a capital letter goes on with it (Jane Doe, O'Brien); of an address
it is known where it ends (`in_path`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from schemas.privacy import Detector
from streams.anonymize.detect.unfolding import unfolded

_sections = """
    account accounts benutzer cliente compte comptes conta conto cuenta customer employee employees gebruiker
    gebruikers klant klient konto kunde lid member members membre membres membro miembro miembros mitglied
    mitglieder nutzer patient patients perfil profiel profil profile profiles profilo subscriber subscribers u user
    username users usuario usuarios utente utenti utilisateur utilisateurs utilizador uzytkownicy uzytkownik
"""
_pages = """
    a abmelden abo about access accesso account accounts activate activation active activity add added address
    addresses admin adresse adressen affiliate agb ajustes alerts all an and anmelden anmeldung api app apps archive
    area auth authenticate authorize avatar ban bank basket bearbeiten benefits bestellen bestellung bestellungen
    billing blocked blog bonus bookmarks business buy by calendar callback cancel cards care cart center central
    cerrar change changes check checkout city close code commande commandes comments community complete concerns
    confirm confirmation connect connexion consent consents contact contacts cookies coupons create created
    credentials credit credits current customer customers dashboard data daten datos de deconnexion default delete
    deleted delivery demo deposit details developer devices direcciones directory disable documents donations
    download downloads edit einstellungen email emails en enable enroll entrar es events export exporter faq
    favoriten favorites favoritos favourites feed feedback feedbacks files finish first follow followers following
    forgot forgotten form forms forum fr friends fs gallery gegevens general gift giftcards group groups guest guide
    guides help history home id import impostazioni in inbox index info information iniciar inloggen inscription
    insights instellingen integrations intro invitation invitations invite invites invoice invoices it item items
    job jobs join key keys kontakt konto lang language last licenses link links list listing lists live loans local
    location locations lock locked log logged login logoff logon logout logowanie lost loyalty mail mailbox main
    manage management manager map me media meine members membership memberships merge message messages method
    methods mfa mobile modifier modify money my name names new news newsletter newsletters next nl node note notes
    notification notifications oauth oauth2 of off offer offers old onboarding online open options or order orders
    ordini org organization out overview page pages paiement panel panier parametres partner partners password
    passwords passwort pay payment payments pedidos pending people permissions personal phone photo photos pin pl
    plan plans play points policy popular portal post posts preference preferences premium preview previous print
    privacy private products profil profile profiles projects promo promotions provider public purchase purchases
    rates read recent rechnungen recommended records recover recovery redeem ref referral referrals refund refunds
    register registered registration registrazione registreren registrieren registro rejestracja remind reminder
    remove renew reports request requests reset resources restore result results return returns review reviews
    reward rewards roles rss sale sales salir save saved search secure security select sell send service services
    sesion session sessions set settings setup share shared shipping shop show sign signed signin signoff signon
    signout signup site social sso start stats status step stop store stories story subscribe subscribed
    subscription subscriptions success summary support survey switch team teams terms test testimonials thank thanks
    ticket tickets to token tokens tools top topics tour track tracking transactions transfer type types uebersicht
    uitloggen unlock unsubscribe up update updates upgrade upload uploads usage user users ustawienia validate vat
    verification verified verify videos view vip visa vite voucher vouchers wallet watch watchlist webhooks welcome
    widgets wish wishlist wishlists with withdraw work wunschliste you your zahlung zamowienia
"""
SECTIONS = frozenset(_sections.split())  # of letters a to z only
_between = "de details edit en es fr id info it name nl pl pt show view"  # /users/view/jane, /user/en/jane
_BETWEEN = frozenset(_between.split())
_WORDS = frozenset(_pages.split())

_PLACEHOLDER = f"[{Detector.NAME}]"
_PLACEHOLDERS = frozenset(f"[{kind}]" for kind in Detector)

_SEGMENT = r"((?:[^/?#&;,\s\[\]\"'<>]|'(?=[A-Za-z])|[ ,]{1,2}(?=[A-Z])){1,200})"
_after = re.compile(
    rf"/(?:([A-Za-z]{{1,16}})(?=/{{1,3}}{_SEGMENT})|[~@](?<!/npm/.)(?<!/package/.)(?={_SEGMENT}))"
).finditer
_next = re.compile(rf"/{{1,3}}{_SEGMENT}").match
_ending = re.compile(r"\.(?:x?html?|php|aspx?|jsp|json|xml|cgi|do)$", re.IGNORECASE).sub
_word = re.compile(r"[^-_.+: ]+").findall


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where they begin and end."""
    for match in _after(text):
        section, segment, marked = match.groups()
        if section is None:
            place = match[0] == "/@" and marked[0] in "-0123456789"  # on a map: /@52.52,13.4,15z
            if not place and not _page(marked):
                yield match.span(3)
        elif section.lower() in SECTIONS:
            span = match.span(2)
            while True:
                number = segment.isdecimal()
                if not number and segment.lower() not in _BETWEEN:
                    if not _page(segment):
                        yield span
                    break
                if number:
                    yield span
                found = _next(text, span[1])
                if found is None:
                    break
                segment, span = found[1], found.span(1)


def in_path(path: str, front: str = "") -> str:
    """The path of an address with placeholders for whole segments that are names; `front`: a segment before it.

    path: what was found in it as in any text is masked already.
    """
    parts = path.split("/")
    after = front.lower() in SECTIONS
    for at, part in enumerate(parts[1:], 1):
        segment = unfolded(part).lower()
        mark = segment[:1] if segment[:1] in ("~", "@") else ""
        if segment.startswith(mark + _PLACEHOLDER):
            parts[at], after = mark + _PLACEHOLDER, False  # where a part of it looked like a whole one
        elif not after:
            after = segment in SECTIONS
        elif segment and segment not in _BETWEEN:
            if not _page(segment) and segment not in _PLACEHOLDERS:
                parts[at] = mark + _PLACEHOLDER
            after = segment in SECTIONS
    return "/".join(parts)


def _page(segment: str) -> bool:
    words = _word(_ending("", segment.lower()))
    known = [word in _WORDS for word in words]
    return segment == "*" or (any(known) and all(word.isdecimal() or ok for word, ok in zip(words, known, strict=True)))
