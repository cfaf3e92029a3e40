"""What a user can put right."""


class UserError(Exception):
    """One sentence that names what is wrong and what to do; the command exits with code 2."""
