"""How fast and how large: this library against MultiVae, against the machine's arithmetic and against itself."""
