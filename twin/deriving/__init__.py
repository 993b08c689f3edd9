"""Profiles of models and GPUs that nobody measured, scaled from those that were."""

from twin.deriving.derive import DerivationError as DerivationError
from twin.deriving.derive import derive_profile as derive_profile
from twin.deriving.known import known_profile as known_profile
from twin.deriving.known import missing_profiles as missing_profiles
from twin.deriving.loads import UnknownModuleError as UnknownModuleError
from twin.deriving.speeds import MissingFigureError as MissingFigureError
