"""Holds a list of what is linked in to the schema of CycloneDX 1.6. Called by scripts/check-deploy."""

import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = pathlib.Path(sys.argv[1]).read_text()
fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
if fault:
    sys.exit(str(fault)[:2000])
names = {component["name"] for component in json.loads(text)["components"]}
# What does the work is in it, and what only tests need is not.
if not {"rdkafka-sys", "redis", "tokio"} <= names or {"proptest", "jsonschema"} & names:
    sys.exit("the list is not that of what is linked in")
