"""Bodies that an attacker, or a sender gone wrong, would post; and a second reading of them."""
