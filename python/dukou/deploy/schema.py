"""Prints the serving table's JSON schema, which is kept in `spec/`.

`python -m dukou.deploy.schema > spec/serving-table.schema.json`
"""

from __future__ import annotations

import json

from dukou.deploy.table import ServingTable


def schema_text() -> str:
    """The schema as it stands in `spec/`: keys sorted, one space, a newline at the end."""
    schema = ServingTable.model_json_schema()
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
