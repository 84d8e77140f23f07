"""Pages that klingflow serves on this machine: thin faces of the library, as the command line is."""
