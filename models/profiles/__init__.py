"""What is known of a shopper: history, purchases, sessions, tastes; applied event by event, merged at login, erased on request."""

from models.profiles.description import describe, from_description
from models.profiles.history import apply, milliseconds
from models.profiles.merge import merge
from models.profiles.profile import Profile, ProfileError, decode_profile, encode_profile

__all__ = ["Profile", "ProfileError", "apply", "decode_profile", "describe", "encode_profile", "from_description", "merge", "milliseconds"]
