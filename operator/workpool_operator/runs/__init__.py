"""From a due run to its reported end: acquire -> work queue -> snapshot -> decide -> execute."""
