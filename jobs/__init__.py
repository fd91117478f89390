"""Jobs: what runs on the queues, and the only place where channels, knowledge and the bot meet."""
