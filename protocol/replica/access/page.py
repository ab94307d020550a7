"""The page with which a family opens what is held about a child: French, one file, no script, nothing from afar."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import quote

from protocol.replica.access.gathering import Gathered
from protocol.replica.operation import JSON

_STYLE: Final = (
    "body{font:1.05rem/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#17323a}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #d5dedd}h2{margin-top:2rem}"
    "blockquote{margin:.4rem 0;padding:.4rem 1rem;border-left:4px solid #0b5f6b;white-space:pre-wrap}"
)
_ROLES: Final = {"pupil": "élève", "teacher": "enseignant", "guardian": "responsable", "admin": "administration"}
_STATES: Final = {
    "local": "gardé sur un poste",
    "safe": "à l'abri",
    "server": "arrivé et enregistré",
    "teacher": "vu par l'enseignant",
    "marked": "corrigé",
    "redo": "à reprendre",
}


def page_of(found: Gathered, territory: str, made: str) -> bytes:
    """The page. `made` is when."""
    names = "".join(
        f"<tr><td>{_e(row['name'])}</td><td>{_e(_ROLES.get(str(row['role']), row['role']))}</td>"
        f"<td>{_e(row['space_name'] or '?')}</td><td>{_e(_day(row['at']))}{', parti' if row['left'] else ''}</td></tr>"
        for row in found.names
    )
    works = "".join(_work(row) for row in found.works) or "<p>Aucun travail rendu.</p>"
    title = str(found.names[-1]["name"]) if found.names else found.person.hex()
    text = f"""<!doctype html>
<html lang="fr"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{_e(title)} – ce que Relais garde</title><style>{_STYLE}</style></head><body>
<h1>Ce que Relais garde sur {_e(title)}</h1>
<p>« {_e(territory)} », le {_e(made)}. Identifiant dans Relais : <code>{found.person.hex()}</code>.</p>
<h2>Noms et classes</h2>
<table><thead><tr><th>Nom</th><th>Rôle</th><th>Classe</th><th>Inscrit le</th></tr></thead><tbody>{names}</tbody></table>
<h2>Travaux rendus</h2>
{works}
<h2>Tout le reste</h2>
<p>{len(found.entries)} enregistrements portent cet identifiant. Ils sont tous, tels qu'ils sont gardés, dans
<a href="donnees.json">donnees.json</a> (pour un informaticien). Ce qui est dit « scellé » ne s'ouvre qu'avec la clé
d'un enseignant de la classe ou la clé de secours du territoire.</p>
<p>Vous pouvez demander une correction ou l'effacement à l'école ou à qui gère Relais.</p>
</body></html>
"""
    return text.encode()


def _work(row: Mapping[str, JSON]) -> str:
    parts = [f"<h3>{_e(row['title'])}</h3><p>{_e(row['space_name'] or '?')}, rendu le {_e(_day(row['at']))} : "]
    parts.append(f"{_e(_STATES.get(str(row['state']), row['state']))}.</p>")
    if row["missing"] is not None:
        parts.append("<p>Les fichiers ne sont pas sur cette machine.</p>")
    elif row["files"] is None:
        parts.append(f"<p>Scellé : {row['sealed_bytes']} octets.</p>")
    else:
        parts.append(_files(row["files"]))
    note = row["feedback"]
    if isinstance(note, Mapping):
        mark = f" <strong>{_e(note['mark'])}</strong>" if note.get("mark") else ""
        redo = " À reprendre." if note.get("redo") else ""
        parts.append(
            f"<p>Correction :{mark}{redo}</p><blockquote>{_e(note['text'])}</blockquote>{_files(note['files'])}"
        )
    return "".join(parts)


def _files(files: JSON) -> str:
    rows = [file for file in files if isinstance(file, Mapping)] if isinstance(files, list) else []
    if not rows:
        return ""
    links = "".join(
        f'<li><a href="{quote(str(file["path"]))}">{_e(str(file["path"]).rpartition("/")[2])}</a></li>' for file in rows
    )
    return f"<ul>{links}</ul>"


def _day(text: JSON) -> str:
    day = str(text)[:10].split("-")
    return "/".join(reversed(day))


def _e(text: JSON) -> str:
    return escape(str(text))
