"""Benchmarks: every figure that the documents quote, one command each (`penstock bench NAME`)."""
