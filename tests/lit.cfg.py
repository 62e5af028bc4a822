# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""IR tests: .mlir files whose RUN lines use the project's tools and FileCheck."""
import os
import sys

import lit.formats

config.name = "tercet"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.excludes = ["Inputs"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = config.exec_root
config.environment["PATH"] = os.pathsep.join(
    [config.tools_dir, config.llvm_tools_dir, os.environ["PATH"]])
config.substitutions += [
    ("%python", sys.executable),
    ("%root", os.path.dirname(config.test_source_root)),
]
