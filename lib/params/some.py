"""A part of `params.yaml` that gives some values of a section, in place of its defaults."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from .section import Section


@dataclass(frozen=True)
class Some:
    """Annotates a dict that holds some keys of the section `of`, each as it is there."""

    of: type[Section]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Of a dict with these keys and no others."""
        fields = {}
        for name, field in self.of.model_fields.items():
            kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            fields[name] = core_schema.typed_dict_field(handler.generate_schema(kind), required=False)
        config = core_schema.CoreConfig(strict=True, allow_inf_nan=False)
        return core_schema.typed_dict_schema(fields, extra_behavior="forbid", config=config)
