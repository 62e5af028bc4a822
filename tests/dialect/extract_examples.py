# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Prints the ```mlir examples of op descriptions, split for tercet-opt."""
import re
import sys
import textwrap

text = open(sys.argv[1]).read()
examples = re.findall(r"```mlir\n(.*?)```", text, re.DOTALL)
print("// -----\n".join(textwrap.dedent(example) for example in examples))
