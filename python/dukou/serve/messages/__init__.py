"""What other servers' messages of protobuf hold, for our own clients: `dukou predict`, `dukou migrate`.

schema      messages, their fields and numbers, as protobuf types of a pool of our own
elements    a tensor's raw bytes ↔ its elements
tensors     tensors of V2 and of TensorFlow ↔ plain values
"""
