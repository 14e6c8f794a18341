"""A chat whose manners change while people talk."""
