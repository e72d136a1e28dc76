"""The stored result: layout, schema, units, receipts, reading and verifying. Knows no models and no Ray."""
