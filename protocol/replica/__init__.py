"""The replica: at rest, in memory and on disk; at work; and what both programs do with one."""
