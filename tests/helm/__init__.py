"""What the tests of the chart need: Helm, schemas, rendering, and its generated files."""
