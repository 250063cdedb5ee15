"""One module for each part of the package that reads files, with a list READERS; a new file is all it takes."""
