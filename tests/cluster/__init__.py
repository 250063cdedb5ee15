"""`ray up`, `ray submit` and `ray down` for real, on this machine."""
