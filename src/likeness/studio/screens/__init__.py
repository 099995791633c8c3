"""The server side of the screens, one file each; imported in a worker only."""
