"""What went wrong, one line each: what, where, what was expected, what to do. The person's mistakes have exit code 2."""


class UserError(ValueError):
    """Base of every mistake that the person can mend. Shown without a traceback."""


class ConfigError(UserError):
    """A setting has a value that cannot work."""


class SceneError(UserError):
    """A scene file is missing, malformed or unsupported, or nothing of it can be seen."""


class ModelError(UserError):
    """Weights, a scheduler or an optional package are missing or do not fit."""


class OutputError(UserError):
    """The output folder cannot be written, or it holds another render."""


class RenderError(RuntimeError):
    """A render cannot go on, though what was asked for can be done: one line that says what to do (exit code 1)."""


class OutOfMemoryError(RenderError):
    """A call needs more memory than there is, though everything else was freed. Says which setting would fit."""
