"""The gateway: HTTP for commands and questions, a websocket for what changes. It decides nothing."""
