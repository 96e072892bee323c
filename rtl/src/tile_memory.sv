// The tile memory: weights and input indices as the array takes them, a beat a cycle. A read takes two cycles.
module tile_memory #(
    parameter int unsigned WIDTH = 560,
    parameter int unsigned WORDS = bertile_pkg::CapacityTileMemoryBeats
) (
    input  logic                     clk,
    input  logic                     write_enable,
    input  logic [$clog2(WORDS)-1:0] write_address,
    input  logic [        WIDTH-1:0] write_data,
    input  logic [$clog2(WORDS)-1:0] read_address,
    output logic [        WIDTH-1:0] read_data
);

  logic [WIDTH-1:0] unused;

  uram #(
      .WIDTH(WIDTH),
      .WORDS(WORDS)
  ) memory (
      .clk,
      .a_enable(write_enable),
      .a_write(1'b1),
      .a_address(write_address),
      .a_write_data(write_data),
      .a_read_data(unused),
      .b_enable(1'b1),
      .b_write(1'b0),
      .b_address(read_address),
      .b_write_data('0),
      .b_read_data(read_data)
  );

endmodule
