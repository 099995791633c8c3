"""Networks whose layers have names: what they see in images, and what images would please them.

probe.py      Probe, a network that can be asked for any of its layers; Graph and Hooked, its two kinds
winograd.py   convolutions of many images with fewer multiplications
vgg.py mobilenet.py squeezenet.py resnet50.py     those of the lab, each layer named as in Keras
weights.py    where their weights come from, and exactly which file that must be
backbones.py  networks of other people's packages: DINOv2, CLIP, and any of transformers and timm
opening.py    load("vgg19"), load("runs/vicreg-photos"), load("dinov2")
gallery.py    the images of a set, read as Keras reads them
features.py   the outputs of layers for every image of a set, written as a matrix
"""
