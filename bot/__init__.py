"""The core: one answer from a question, whatever channel it came by. Knows no channel, no Flask, no queue."""
