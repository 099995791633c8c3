"""The studio: the same questions to the same run folders as on the command line, in a browser.

    page  <- one binary websocket ->  hub (server.py, hub.py: no torch)  <- pipes ->  workers (worker.py)
                                      |
                                      +- trainings: processes of the command line of their own (jobs.py)

The hub passes values on and keeps the last one of every key; what it shows of runs it reads from their
folders (library.py).  A screen is a file in page/screens and, where it asks a model, one in screens/.
"""
