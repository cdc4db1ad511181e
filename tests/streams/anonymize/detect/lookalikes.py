"""What real texts hold that looks like values of persons, and is none: a generator by name each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from string import ascii_uppercase, digits

Make = Callable[[Random], str]

_words = """
    red shoes garden chair summer sale wireless headphones running trail kitchen lamp winter coat price list
    Übersicht Größentabelle Wärmepumpe Förderung Öffnungszeiten Bundesregierung Kündigungsfrist Damenschuhe
    chaussures été manteau livraison gratuite écran téléviseur zapatos niño camiseta teléfonos envío rebajas
    scarpe donna giacca estate sconto buty zimowe kurtka łóżko promocja кроссовки зимние купить недорого новости
    東京 ホテル 天気 予約 上海 电影 下载 手机壳 חדשות שולחן أخبار اليوم סרטים ceník boty sleva ayakkabı fiyat indirim
"""
WORDS = _words.split()


def some(r: Random, count: int, alphabet: str = digits) -> str:
    return "".join(r.choices(alphabet, k=count))


def _date(r: Random) -> datetime:
    return datetime(2015, 1, 1, tzinfo=UTC) + timedelta(seconds=r.randrange(12 * 365 * 86_400))


def slug(r: Random) -> str:
    return "-".join(r.choices([word.lower() for word in WORDS if word.isascii()], k=r.randint(2, 5)))


def ean(r: Random) -> str:
    body = r.choice(["400", "401", "405", "590", "302", "761", "871", "978", "979", "501", "885"]) + some(r, 9)
    return body + str(-sum(int(c) * (3 if at % 2 else 1) for at, c in enumerate(body)) % 10)


def isbn13(r: Random) -> str:
    text = "97" + r.choice("89") + some(r, 9)
    text += str(-sum(int(c) * (3 if at % 2 else 1) for at, c in enumerate(text)) % 10)
    return f"{text[:3]}-{text[3]}-{text[4:7]}-{text[7:12]}-{text[12]}" if r.random() < 0.6 else text


def isbn10(r: Random) -> str:
    body = some(r, 9)
    check = sum(int(c) * (at + 1) for at, c in enumerate(body)) % 11
    text = body + ("X" if check == 10 else str(check))
    return f"{text[0]}-{text[1:4]}-{text[4:9]}-{text[9]}" if r.random() < 0.7 else f"ISBN {text}"


_FORMS = (
    *("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y%m%d", "%Y/%m/%d", "%d.%m.%y", "%Y-%m-%dT%H:%M:%S.123Z"),
    *("%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%H:%M:%S", "%Y%m%d%H%M%S", "%d-%m-%Y", "%Y.%m.%d", "%d %B %Y"),
    *("%d.%m. - 31.12.%Y", "%a, %d %b %Y %H:%M:%S +0200", "%Y-%m-%d_%H-%M-%S", "%Y%m%dT%H%M%SZ"),
    *("%d.%m.%Y - 28.02.%Y", "%H.%M - 22.30 Uhr"),
)


def dated(r: Random) -> str:
    return _date(r).strftime(r.choice(_FORMS))


def price(r: Random) -> str:
    whole = r.choice([r.randint(1, 999), r.randint(1000, 99_999), r.randint(100_000, 9_999_999)])
    text = f"{whole:,}"
    return r.choice(
        [
            f"${text}.{some(r, 2)}",
            f"{text.replace(',', '.')},{some(r, 2)} €",
            f"{text.replace(',', ' ')} zł",
            f"£{text}",
            f"{text.replace(',', ' ')} kr",
            f"EUR {whole}.{some(r, 2)}",
            f"{whole}.{some(r, 2)}",
            f"¥{text}",
            f"Rp {text}.000",
        ]
    )


def order(r: Random) -> str:
    return r.choice(
        [
            f"DE-{some(r, 6)}-{some(r, 2)}",
            f"#{some(r, 9)}",
            f"{some(r, 3)}-{some(r, 7)}-{some(r, 7)}",
            "1" + some(r, 9),
            f"ORD{some(r, 8)}",
            f"RE-2024-{some(r, 5)}",
            f"INV/{some(r, 4)}/{some(r, 4)}",
            f"SO{some(r, 7)}",
            some(r, 7),
            f"order-{some(r, 8)}",
            f"B0{some(r, 8, ascii_uppercase + digits)}",
            f"1Z{some(r, 16, ascii_uppercase + digits)}",
        ]
    )


def product_url(r: Random) -> str:
    number = some(r, r.randint(3, 10))
    return r.choice(
        [
            f"/products/{slug(r)}-{number}.html",
            f"/p/{number}/{slug(r)}",
            f"/dp/B0{some(r, 8, ascii_uppercase + digits)}",
            f"/{slug(r)}/?id={number}&color=red",
            f"https://shop.example/{slug(r)}_{number}",
            f"/c/{number}?page=2&size=42",
            f"/item/{some(r, 12)}",
            f"/article{number}.ece",
            f"/itm/{slug(r)}/{some(r, 12)}?hash=item{some(r, 10)}",
            f"/{_date(r):%Y/%m/%d}/{slug(r)}/",
            f"/news/{_date(r):%Y-%m-%d}-{slug(r)}",
            f"/a/{r.randbytes(4).hex()}",
        ]
    )


def version(r: Random) -> str:
    a, b, c, d = r.randint(1, 130), r.randint(0, 40), r.randint(0, 9000), r.randint(0, 300)
    return r.choice(
        [
            f"{a}.{b}.{c}",
            f"v{a}.{b}.{r.randint(0, 9)}",
            f"Version {a}.{b}.{r.randint(0, 90)}.{d % 256}",
            f"{a % 10}.0.0.1",
            f"Chrome/{a}.0.{c}.{d}",
            f"Chrome/{a}.0.0.0 Safari/537.36",
            f"Firefox/{a}.0",
            f"{a % 10}.{b % 10}.{c % 10}.{d % 10}",
            f"iOS {a % 18}.{b}.1",
            f"release {a}.{b}.{d % 250}.{d % 99 + 1}",
            f"PHP {a % 9}.{b}.{c % 40}",
            f"{a}.{b}.0-beta.{b}",
            f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{a}.0.0.0",
        ]
    )


def coordinates(r: Random) -> str:
    lat, lon = r.uniform(-80, 80), r.uniform(-170, 170)
    return r.choice(
        [
            f"{lat:.6f},{lon:.6f}",
            f"/maps/@{lat:.4f},{lon:.4f},15z",
            f"/map?lat={lat:.8f}&lng={lon:.8f}",
            f"{lat:.4f} {lon:.4f}",
            f"N{abs(lat):.5f} E{abs(lon):.5f}",
            f"#map=12/{lat:.4f}/{lon:.4f}",
        ]
    )


def asset(r: Random) -> str:
    md5, sha = hashlib.md5(r.randbytes(4)).hexdigest(), hashlib.sha1(r.randbytes(4)).hexdigest()
    return r.choice(
        [
            f"/static/app.{md5}.js",
            f"/assets/main-{md5}.css",
            f"/img/{md5}.png",
            f"/media/{md5}/photo.jpg",
            f"/c/{sha}.webp",
            f"/files/{md5}/{slug(r)}.pdf",
            f"/_next/static/chunks/{md5[:16]}.js",
            f"/logo@{r.randint(2, 3)}x.png",
            f"/v/{sha}",
            f"/npm/jquery@3.{r.randint(0, 9)}.1/dist/jquery.min.js",
            f"/npm/@angular/core@{r.randint(2, 19)}.0.2",
            f"/i/{md5[:8]}",
            f"/commit/{sha}",
            f"/static/{md5[:8]}.{md5[8:16]}.chunk.css?v={some(r, 10)}",
            f"/p/{md5[:8]}-{md5[8:12]}-{slug(r)}",
        ]
    )


def identifier(r: Random) -> str:
    text = r.randbytes(16).hex()
    epoch = int(_date(r).timestamp())
    return r.choice(
        [
            f"/doc/{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}",
            f"t={epoch}",
            f"ts={epoch}{some(r, 3)}",
            f"0.{some(r, 16)}",
            f"/status/1{some(r, 18)}",
            f"watch?v={some(r, 11, ascii_uppercase + ascii_uppercase.lower())}",
            f"cb={some(r, 8)}",
            f"gclid=Cj0KCQ{some(r, 40, ascii_uppercase + ascii_uppercase.lower() + digits)}",
            some(r, 11),
            f"DE{some(r, 9)}",
            f"WDB{some(r, 14, 'ABCDEFGHJKLMNPRSTUVWXYZ' + digits)}",
            f"doi:10.1000/{some(r, 6)}",
            f"#{text[:6]}",
            f"fbclid=IwAR{some(r, 56, ascii_uppercase + ascii_uppercase.lower() + digits + '_-')}",
            some(r, r.choice([8, 9, 10])),
        ]
    )


def quantity(r: Random) -> str:
    a, b = r.randint(1, 99), r.randint(100, 999)
    return r.choice(
        [
            f"{b}x{b + 20} px",
            f"Größe {a} {a + 2} {a + 4} {a + 6}",
            "1 2 3 4 5 6 7 8 9 10",
            f"{a}/{b} Mbit",
            f"{b}-{b + 100} €",
            f"{a}:{a % 60:02d}:{a % 60:02d}",
            "3:2 (1:1)",
            f"iPhone 15 Pro {b} GB",
            f"205/55 R16 {a}V",
            f"1 {b} {b} Einwohner",
            "2023-2024",
            "1990 - 2024 Best of",
            f"§ {b} Abs. {a}",
            f"{a} % von {b}",
            f"RTX {b}0 {a} GB",
            f"Seite {a} von {b}",
            f"{a}.{b}.{b} views",
            "24/7",
            "A4 210 x 297 mm",
            f"{b}.{b}.{b},00 EUR",
            f"Air Max {b} {a}",
            "60000-80000",
        ]
    )


def place(r: Random) -> str:
    return r.choice(
        [
            f"D-{some(r, 5)} Berlin",
            "SW1A 1AA London",
            f"{some(r, 5)}-{some(r, 4)} New York",
            f"Hauptstr. {r.randint(1, 99)}",
            f"75{some(r, 3)} Paris",
            f"LH{some(r, 4)}",
            f"B-AB {some(r, 4)}",
            f"Gate {r.randint(1, 60)}",
            f"〒{some(r, 3)}-{some(r, 4)}",
        ]
    )


_site = """
    /account/login /user/login?next=%2F /users/sign_in /account/settings /profile/edit /member/register /members/
    /account/orders /account/order-history /user/password/reset /users/ /account /profile /u/ /member/benefits
    /account/addresses/new /user/notifications /account/wishlist /user/logout /account/subscriptions /users/list?page=2
    /profil/bearbeiten /konto/bestellungen /compte/commandes /usuario/registro /mon-compte/ /customer/account/login/
    /customer/account/create/ /members/login.php /account/payment-methods /user/settings/privacy /profile/overview
    /users/search?q=shoes /account/my-orders /account/verify-email /user/help /blog/user-guide/ /author/jane-doe/
    /and/or /team/ /about/people /username-rules /superuser/ /account/index.html /profile/photos /users/popular
"""
SITE = _site.split()


def search_words(r: Random) -> str:
    return " ".join(r.choices(WORDS, k=r.randint(1, 4)))


def title(r: Random) -> str:
    return r.choice(
        [
            f"{search_words(r).title()} – Shop {r.randint(1, 400)}",
            f"404/URL = %2F{slug(r)}%3Fp%3D2/From = https%3A%2F%2Fa.example%2F",
            f"https://cdn.example/app.js:{r.randint(1, 99)}:{r.randint(1, 9999)}",
            f"{search_words(r)} | {_date(r):%Y}",
            f"follow @{slug(r).partition('-')[0]} on social",
            f"{search_words(r)} @ {r.randint(1, 20)}:00",
            "C++ std::vector vs a::b",
        ]
    )


def barcode(r: Random) -> str:
    return r.choice(
        [
            ean(r),
            f"EAN {ean(r)}",
            f"/ean/{ean(r)}",
            f"gtin13={ean(r)}",
            some(r, 12),
            f"UPC 0 {some(r, 5)} {some(r, 5)} 4",
        ]
    )


LOOKALIKES: tuple[tuple[str, Make], ...] = (
    ("search words", search_words),
    ("product URL", product_url),
    ("product URL", product_url),
    ("date", dated),
    ("date", dated),
    ("price", price),
    ("order", order),
    ("version", version),
    ("coordinates", coordinates),
    ("asset", asset),
    ("identifier", identifier),
    ("quantity", quantity),
    ("place", place),
    ("page of the site", lambda r: r.choice(SITE)),
    ("title", title),
    ("barcode", barcode),
    ("ISBN", lambda r: r.choice([isbn10, isbn13])(r)),
)
