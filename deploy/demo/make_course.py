"""Make again the files of the sample course that are not text: ODT sheets, PNG pictures, a PDF.

Only needed after a change of the lesson; the results are kept beside it. Needs `rsvg-convert` and `chromium`.
"""

from __future__ import annotations

import subprocess
import tempfile
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
COURSE, ASSIGNMENT, ANSWER, SOURCES = (HERE / name for name in ("course", "devoir", "copie-eleve", "sources"))

RAIN_MM = (12, 4, 0, 23, 9, 16)
STEP_LABELS = (
    "1 Évaporation",
    "transpiration",
    "2 Condensation",
    "3 Précipitations",
    "4 Ruissellement",
    "5 Infiltration",
)

Part = tuple[str, str | int]
"""A style and its text, or a number of empty ruled lines."""

SHEET: list[Part] = [
    ("title", "De la pluie dans un bocal"),
    ("text", "Prénom : ……………………………………   Date : ……………………………"),
    ("heading", "Mon idée, avant de commencer"),
    ("text", "Je pense que sous l'assiette il va y avoir"),
    ("lines", 2),
    ("heading", "Ce que j'observe"),
    ("text", "Au bout de deux minutes, sur les parois du bocal :"),
    ("lines", 2),
    ("text", "Cinq minutes après avoir posé les glaçons, sous l'assiette :"),
    ("lines", 2),
    ("heading", "J'explique avec les mots de la leçon"),
    ("text", "évaporation – vapeur – condensation – précipitations"),
    ("lines", 4),
    ("heading", "Mon idée était-elle juste ?"),
    ("lines", 1),
]
ANSWER_SHEET: list[Part] = [
    ("title", "Le voyage d'une goutte"),
    ("text", "Prénom : ……………………………………   Date : ……………………………"),
    ("text", "Je suis une goutte d'eau…"),
    ("lines", 9),
]
LEAS_STORY = (
    "Je suis une goutte d'eau et j'habite dans la mer. Un jour il fait très chaud et je m'évapore : je deviens de "
    "la vapeur et plus personne ne me voit. Je monte, je monte, et j'ai froid. C'est la condensation : avec mes "
    "copines on fait un gros nuage gris. Le vent nous pousse jusqu'à Bourges. On est trop lourdes alors on tombe, "
    "ce sont les précipitations. Ploc ! Moi je coule dans le caniveau jusqu'à l'Yèvre, c'est le ruissellement. Ma "
    "sœur s'infiltre dans la terre et elle va dans la nappe. Après le Cher et la Loire, je retrouve la mer et je "
    "recommence."
)
LEAS_ANSWER: list[Part] = [
    ("title", "Le voyage d'une goutte"),
    ("text", "Prénom : Léa"),
    ("text", LEAS_STORY),
    ("text", "J'ai dessiné mon étape préférée : quand il pleut."),
]

NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{"xsl-fo-compatible" if name == "fo" else name}:1.0"'
    for name in ("office", "text", "style", "fo", "manifest")
)
STYLES = "".join(
    f'<style:style style:name="{name}" style:family="paragraph">'
    f'<style:paragraph-properties fo:margin-bottom="{gap}"{extra}/><style:text-properties'
    f' fo:font-family="Liberation Sans" fo:font-size="{size}" fo:font-weight="{weight}"/></style:style>'
    for name, size, weight, gap, extra in (
        ("title", "22pt", "bold", "0.5cm", ""),
        ("heading", "14pt", "bold", "0.2cm", ' fo:margin-top="0.4cm" fo:keep-with-next="always"'),
        ("text", "12pt", "normal", "0.2cm", ""),
        ("line", "24pt", "normal", "0.15cm", ' fo:border-bottom="0.5pt solid #888888" style:join-border="false"'),
    )
)


def paragraph(kind: str, content: str | int) -> str:
    """One paragraph of a sheet, or as many empty ruled lines as asked for."""
    if isinstance(content, int):
        return '<text:p text:style-name="line"/>' * content
    if kind == "title":
        return f'<text:h text:style-name="title" text:outline-level="1">{escape(content)}</text:h>'
    return f'<text:p text:style-name="{kind}">{escape(content)}</text:p>'


def write_odt(path: Path, parts: list[Part]) -> None:
    """Write an OpenDocument text of a few plain paragraphs."""
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    body = "".join(paragraph(kind, content) for kind, content in parts)
    content = (
        f'{head}<office:document-content {NAMESPACES} office:version="1.3"><office:automatic-styles>{STYLES}'
        f"</office:automatic-styles><office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    manifest = (
        f'{head}<manifest:manifest {NAMESPACES} manifest:version="1.3">'
        '<manifest:file-entry manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.text"/>'
        '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>'
    )
    with zipfile.ZipFile(path, "w") as package:
        for name, data, compression in (
            ("mimetype", "application/vnd.oasis.opendocument.text", zipfile.ZIP_STORED),
            ("content.xml", content, zipfile.ZIP_DEFLATED),
            ("META-INF/manifest.xml", manifest, zipfile.ZIP_DEFLATED),
        ):
            package.writestr(zipfile.ZipInfo(name, (2026, 9, 1, 8, 0, 0)), data, compression)


def rain_chart() -> str:
    """The rain of six weeks as a bar chart, in SVG."""
    bars = "".join(
        f'<rect x="{110 + 100 * week}" y="{310 - 10 * rain}" width="64" height="{10 * rain}" rx="4" fill="#2f8ccc"/>'
        f'<text x="{142 + 100 * week}" y="{302 - 10 * rain}" font-weight="bold">{rain}</text>'
        f'<text x="{142 + 100 * week}" y="338">{week + 1}</text>'
        for week, rain in enumerate(RAIN_MM)
    )
    grid = "".join(
        f'<path d="M84 {310 - 10 * level}H700" stroke="#cfe3ef"/>'
        f'<text x="72" y="{316 - 10 * level}" text-anchor="end" font-size="16">{level}</text>'
        for level in (0, 5, 10, 15, 20, 25)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 380" font-family="DejaVu Sans" font-size="18" '
        f'text-anchor="middle" fill="#1f2d36"><rect width="760" height="380" fill="#fff"/>{grid}{bars}'
        '<text x="392" y="368">semaine</text><text x="84" y="36" text-anchor="start">pluie (mm)</text></svg>'
    )


def blank_diagram() -> str:
    """The lesson's diagram with an empty box in place of each numbered word."""
    svg = (COURSE / "images" / "cycle.svg").read_text(encoding="utf-8")
    for label in STEP_LABELS:
        start = svg.rindex("<text", 0, svg.index(f">{label}<"))
        end = svg.index("</text>", start) + len("</text>")
        x, y = (int(svg[start:end].split(f' {name}="')[1].split('"')[0]) for name in "xy")
        number = label[0] if label[0].isdigit() else ""
        box = (
            f'<rect x="{x - 115}" y="{y - 28}" width="230" height="40" rx="8" fill="#fff" stroke="#24313a"/>'
            f'<text x="{x - 98}" y="{y}" fill="#24313a" stroke="none">{number}</text>'
        )
        svg = svg[:start] + (box if number else "") + svg[end:]
    return svg


def write_png(path: Path, svg: str, width: int) -> None:
    """Draw an SVG as a PNG of the given width in pixels."""
    subprocess.run(["rsvg-convert", "--width", str(width), "--output", path], input=svg.encode(), check=True)


def write_pdf(path: Path, page: Path) -> None:
    """Print a page of the lesson."""
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        command += ["--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={profile}"]
        command += ["--no-pdf-header-footer", f"--print-to-pdf={path}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    write_odt(COURSE / "fiche-experience.odt", SHEET)
    write_odt(ASSIGNMENT / "reponse.odt", ANSWER_SHEET)
    write_odt(ANSWER / "voyage-de-lea.odt", LEAS_ANSWER)
    write_png(COURSE / "images" / "cycle.png", (COURSE / "images" / "cycle.svg").read_text(encoding="utf-8"), 1600)
    write_png(COURSE / "images" / "pluviometre.png", rain_chart(), 1140)
    write_png(ASSIGNMENT / "schema-a-completer.png", blank_diagram(), 1350)
    write_png(ANSWER / "dessin.png", (SOURCES / "dessin.svg").read_text(encoding="utf-8"), 1200)
    write_pdf(COURSE / "memo.pdf", COURSE / "memo.html")
