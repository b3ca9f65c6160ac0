"""From an instruction set in one language to one that reads as if people of another had written it."""
