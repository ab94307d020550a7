"""What people changed in DIR/coursework is told on the page of its item, for as long as it lies there."""

from __future__ import annotations

from pathlib import Path

from protocol.roles import Role
from sync_agent.coursework.materializer import Materializer
from tests.harness.commands import Desk
from tests.harness.enrolled import enrolled_class, open_agent
from tests.harness.portal import portal


async def test_the_page_of_a_lesson_says_where_what_somebody_changed_on_this_machine_is_kept(tmp_path: Path) -> None:
    room = await enrolled_class(tmp_path, {"petit": Role.TEACHER})
    agent = await open_agent(room["petit"])
    try:
        desk, tree = Desk(agent), Materializer(agent, reserve_bytes=0)
        item = (await desk.publish({"fiches/exercice.txt": b"un"}, space=room.space, title="Eau"))["item"]
        await tree.refresh(thorough=True)
        lying = room["petit"].folder / "coursework" / "CM1" / "Eau" / "fiches"
        (lying / "exercice.txt").write_text("un, et ma réponse", encoding="utf-8")
        await desk.publish({"fiches/exercice.txt": b"deux"}, item=item)
        await tree.refresh(thorough=True)
        (kept,) = (path for path in lying.iterdir() if path.name != "exercice.txt")
        async with portal(agent) as somebody:
            shown = f"coursework/CM1/Eau/fiches/{kept.name}"
            assert shown in await somebody.page(f"/item/{item}")
            assert "Files changed on this computer" in await somebody.page(f"/item/{item}?lang=en&register=adult")
            kept.unlink()
            assert shown not in await somebody.page(f"/item/{item}")
    finally:
        await agent.close()
