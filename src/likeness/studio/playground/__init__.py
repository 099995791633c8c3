"""The playground: the library's own models and losses on points in the plane, one step after the other.

points    laws, drawings, and the same on a lattice for models of brightness
games     which models learn points, and by which options
pane      a run in memory: steps, what is to be seen of it, snapshots, forks
meters    how far generated points are from real ones
dirac     the GAN of one number whose orbit has a closed form
breaking  how to make a GAN fail, and the remedies
session   panes side by side, their past, and what a screen asks of them
"""
