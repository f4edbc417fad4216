"""Values from outside as they were written: no number is read out of a text, and no flag out of a number."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError


def no_text(value: Any) -> Any:
    """Refuse what pydantic would read as a number by its looks; 3.0 is whole, as JSON Schema has it."""
    if isinstance(value, str | bool):
        raise PydanticCustomError("int_type", "a number is written without quotes")
    return value


Whole = Annotated[int, BeforeValidator(no_text)]
"""A whole number, written as a number."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number, written as a number."""
Flag = Annotated[bool, Field(strict=True)]
"""true or false, written so."""
