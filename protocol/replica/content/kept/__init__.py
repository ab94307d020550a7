"""Packs where they lie: as files with their index, or in memory; made anew, and what goes once nobody needs it."""
