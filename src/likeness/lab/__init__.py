"""The verbs of the lab, one file each: flags in, a file and a line out.  What they do stands in ../probes/."""
