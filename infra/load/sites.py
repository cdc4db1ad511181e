"""The model sites that visitors go to: pages, titles, products, files; the same for every run with the same ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import quote

from infra.sites import add
from schemas.privacy import PageViewIds

TIMEZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC", "Australia/Sydney", "America/Sao_Paulo")
_TEXT = """red blue green summer winter garden kitchen running trail city night morning light classic modern
small large guide review story report market travel river mountain coffee bread cheese paper wooden silver quiet
music film theatre science history weather election budget health school energy train bicycle Übersicht Größe café
naïve señor résumé Straße Łódź Ελλάδα Новости 東京 東北 中文 עברית"""
_WORDS = _TEXT.split()
_SECTIONS = {
    "shop": ("products", "sale", "new-in", "brands", "help"),
    "news": ("politics", "economy", "culture", "sport", "opinion"),
    "docs": ("guide", "reference", "howto", "changelog", "faq"),
    "blog": ("2024", "2025", "2026", "tags", "about"),
    "app": ("dashboard", "projects", "reports", "settings", "billing"),
}
_NAMES = {"shop": "Shop", "news": "Daily News", "docs": "Handbook", "blog": "Notes", "app": "Workbench"}
_FILES = ("pdf", "zip", "docx", "mp3", "dmg", "csv")
_PAGES, _PRODUCTS = 400, 120


def component(text: str) -> str:
    """Percent-encoded as JavaScript's encodeURIComponent does."""
    return quote(text, safe="~()*!.'")


@dataclass(frozen=True, slots=True)
class Product:
    """A thing for sale; texts are plain."""

    sku: str
    name: str
    category: str
    price: float


@dataclass(frozen=True, slots=True)
class ModelSite:
    """A site as its visitors see it. pages and files hold (percent-encoded URL, percent-encoded title)."""

    id: int
    kind: str
    name: str
    domain: str
    timezone: str
    pages: tuple[tuple[str, str], ...]
    files: tuple[str, ...]
    products: tuple[Product, ...]


def model_site(number: int) -> ModelSite:
    """The site of this id; what is on it depends on the id alone."""
    random = Random(f"site {number}")
    kinds = list(_SECTIONS)
    kind = kinds[(number - 1) % len(kinds)]
    domain = f"{kind}-{number}.example"
    name = f"{_NAMES[kind]} {number}"

    def words(count: int) -> list[str]:
        return [random.choice(_WORDS) for _ in range(count)]

    pages = [(component(f"https://{domain}/"), component(name))]
    for page in range(1, _PAGES):
        slug, section = words(random.randint(1, 4)), random.choice(_SECTIONS[kind])
        ending = random.choice(("/", "/", ".html", f"-{page}", f"-{page}.html"))
        url = f"https://{domain}/{section}/{quote('-'.join(slug).lower())}{ending}"
        pages.append((component(url), component(f"{' '.join(slug).title()} – {section.title()} | {name}")))
    files = [
        component(f"https://{domain}/files/{quote('-'.join(words(2)).lower())}-{n}.{random.choice(_FILES)}")
        for n in range(30)
    ]
    products = [
        Product(
            f"SKU-{number}-{n:04}",
            " ".join(words(3)),
            random.choice(_SECTIONS[kind]),
            random.randint(199, 49_999) / 100,
        )
        for n in range(_PRODUCTS if kind == "shop" else 0)
    ]
    return ModelSite(
        number, kind, name, domain, TIMEZONES[number % len(TIMEZONES)], tuple(pages), tuple(files), tuple(products)
    )


def write_sites(folder: Path, numbers: range | list[int], *, counted: bool = True) -> None:
    """Write the files of these sites into a `sites.d`, so that a collector knows them.

    `counted`: whether page view ids are kept as they came, for by these the books know each event.
    """
    for number in numbers:
        site = model_site(number)
        add(
            folder,
            name=site.name,
            domains=(site.domain, f"www.{site.domain}"),
            timezone=site.timezone,
            number=number,
            privacy={"page_view_ids": PageViewIds.KEEP} if counted else None,
        )
