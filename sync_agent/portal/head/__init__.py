"""The pages of a head teacher's device: the school, drills, what was lost or stolen."""
