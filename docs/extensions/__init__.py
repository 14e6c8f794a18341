"""What the documentation takes from the program itself, so that it cannot be out of date."""
