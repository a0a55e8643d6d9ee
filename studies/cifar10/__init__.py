"""Reassembly (DeRy) on CIFAR-10: real images, published networks and such as are trained here."""
