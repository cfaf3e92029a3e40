"""What runs where the GPU is: tasks, their problem, their execution, and the store. No Ray.

tasks + problems → execution → storage
"""
