"""The portal: the pages of this machine's agent for pupils and teachers, with or without a server (`run --portal`).

`site` opens the two listeners; `pages`, `everybody`, `teacher`, `head` and `files.lessons` answer; what they show comes
from the folds (`shown`), what they do is what the commands of the same names do.
"""
