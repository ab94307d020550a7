"""The command line of both programs: options in, one result out, and the way to the process that owns the store."""
