"""What every page shares: who asks and in which words, the page around it, commands, where a form leads to."""
