#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes what ONNX says of the operators that LowerONNX lowers, from the installed onnx
package, as rows of dialect/ONNX/OperatorSchemas.cpp. Debian's libonnx knows no opset beyond 17.

    make_operator_schemas.py            writes OperatorSchemas.inc
    make_operator_schemas.py --check    fails if that would change it
"""

import pathlib
import re
import sys

import onnx
from onnx.defs import OpSchema

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOWERINGS = ROOT / "compiler/Conversion/LowerONNX"
TABLE = ROOT / "dialect/ONNX/OperatorSchemas.inc"
MAX_OPSET = 28
KINDS = {"INT": "i", "INTS": "I", "FLOAT": "f", "FLOATS": "F", "STRING": "s", "STRINGS": "S", "TENSOR": "t",
         "GRAPH": "g"}
SUFFIXES = {OpSchema.FormalParameterOption.Single: "", OpSchema.FormalParameterOption.Optional: "?"}
# What onnx calls element types, where that is not TensorProto's name in small letters.
NAMES = {"float": "FLOAT"}


def get_lowered():
    """The operators with a lowering, of ONNX's own domain."""
    rows = (row for path in LOWERINGS.glob("*.cpp") for row in re.findall(r'^ +\{"(\w+)",', path.read_text(), re.M))
    return set(rows)


def get_mask(types):
    """Bit n for TensorProto.DataType n; other values than tensors are not supported."""
    mask = 0
    for name in types:
        if match := re.fullmatch(r"tensor\((\w+)\)", name):
            mask |= 1 << onnx.TensorProto.DataType.Value(NAMES.get(match[1], match[1].upper()))
    return mask


def print_inputs(schema):
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    inputs = []
    for parameter in schema.inputs:
        types = parameter.type_str if parameter.type_str in constraints else f"{get_mask([parameter.type_str]):x}"
        suffix = SUFFIXES.get(parameter.option) if parameter.option in SUFFIXES else (
            "*" if parameter.is_homogeneous else "~")
        inputs.append(f"{parameter.name}:{types}{suffix}")
    used = {parameter.type_str for parameter in schema.inputs}
    masks = [f"{name}={get_mask(types):x}" for name, types in constraints.items() if name in used]
    return " ".join(inputs), " ".join(masks)


def print_attributes(schema):
    attributes = []
    for name, attribute in sorted(schema.attributes.items()):
        # Sequences, maps and sparse tensors are not supported.
        if kind := KINDS.get(attribute.type.name):
            attributes.append(f"{name}:{kind}" + "!" * attribute.required)
    return " ".join(attributes)


def make_rows():
    lowered = get_lowered()
    schemas = [s for s in onnx.defs.get_all_schemas_with_history()
               if not s.domain and s.name in lowered and s.since_version <= MAX_OPSET and not s.deprecated]
    previous = None
    for schema in sorted(schemas, key=lambda s: (s.name, s.since_version)):
        inputs, types = print_inputs(schema)
        most = min(schema.max_input, 1000)
        body = (schema.name, inputs, types, print_attributes(schema), schema.min_input, most,
                schema.min_output, min(schema.max_output, 1000))
        if body == previous:
            continue
        previous = body
        name, inputs, types, attributes, *counts = body
        text = ", ".join(f'"{part}"' for part in (inputs, types, attributes))
        yield f'{{"{name}", {schema.since_version}, {", ".join(map(str, counts))}, {text}}},\n'


def main():
    table = ("// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception\n"
             "// Written by tests/onnx/make_operator_schemas.py from ONNX's definitions of its operators.\n"
             "// clang-format off\n" + "".join(make_rows()))
    if sys.argv[1:] != ["--check"]:
        TABLE.write_text(table)
    elif TABLE.read_text() != table:
        sys.exit(f"{TABLE} is not what the installed onnx package says of the operators; run {sys.argv[0]}")


if __name__ == "__main__":
    main()
