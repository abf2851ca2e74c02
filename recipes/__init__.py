"""How the shipped files were made. Nothing here is installed with the package."""
