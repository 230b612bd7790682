"""Runs SQL in ClickHouse within this process, in an environment of its own: it imports no test.

Standard input: the statements to begin with, the records' values for sms_queue, and a query, whose
rows are written as JSON lines.
"""

import json
import sys

from chdb import session

given = json.load(sys.stdin)
database = session.Session()
database.query("CREATE DATABASE test")
database.query("USE test")
for statement in given["statements"]:
    database.query(statement)
rows = "\n".join(json.dumps({"event": value}) for value in given["values"])
database.query(f"INSERT INTO sms_queue FORMAT JSONEachRow {rows}")
sys.stdout.write(str(database.query(given["query"], "JSONEachRow")))
