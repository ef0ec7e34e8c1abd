"""Millrace and Apache Kafka under the same load, on the same machine: the parts of bench/run."""
