"""What a network looks at: gradients with respect to pixels."""
