"""A client of PostgreSQL: STARTTLS, SCRAM with channel binding, queries."""
