"""Content said in terms of other content: what it may refer to, made, and rebuilt at a bounded cost."""
