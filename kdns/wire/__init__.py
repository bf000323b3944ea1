"""DNS messages and bytes: names, questions, answers, framing."""
