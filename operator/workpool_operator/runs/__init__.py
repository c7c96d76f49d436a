"""From a due run to its reported end: poll -> work queue -> snapshot -> decide -> execute."""
